"""The pages of reports: templates, style and scripts, and the data that the scripts draw."""
