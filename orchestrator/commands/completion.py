"""Completion in bash, zsh and fish, by click's mechanism: `_PARETORAY_COMPLETE=bash_source paretoray` prints what to source.

Click's own scripts put a space after `section.key=`, and fail at `=`, `:`, `@` or commas in one shell or another; these do not.
"""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

_BASH = """\
%(complete_func)s() {
    local kind value help
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            open) compopt -o nospace; COMPREPLY+=("$value") ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local line
    local -a fields whole open
    local -x COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete
    for line in "${(@f)$(%(prog_name)s)}"; do
        fields=("${(@ps:\\t:)line}")
        case $fields[1] in
            file) _path_files ;;
            dir) _path_files -/ ;;
            open) open+=("${fields[2]//:/\\\\:}") ;;
            plain) whole+=("${fields[2]//:/\\\\:}${fields[3]:+:$fields[3]}") ;;
        esac
    done
    (( $#whole )) && _describe -V words whole -U
    (( $#open )) && _describe -V beginnings open -U -S ''
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) %(prog_name)s)
        set -l fields (string split \\t -- $line)
        switch $fields[1]
            case file
                __fish_complete_path $fields[2]
            case dir
                __fish_complete_directories $fields[2]
            case '*'
                printf '%%s\\t%%s\\n' $fields[2] "$fields[3]"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class _Lines(ShellComplete):
    """Prints a line for each candidate: its type, the word and a description, with tabs between."""

    word = ""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """Find candidates, and remember the whole word, of which `--option=` belongs to the shell's word, too."""
        self.word = incomplete
        return super().get_completions(args, incomplete)

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Format a candidate."""
        option, equals, _ = self.word.partition("=")
        before = f"{option}=" if equals and option.startswith("-") and item.type not in ("file", "dir") else ""
        return f"{item.type}\t{self.shown(before + item.value)}\t{' '.join((item.help or '').split())}"

    def shown(self, word: str) -> str:
        """Return what the shell is to insert for a word."""
        return word


class _Bash(_Lines, BashComplete):
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Split the line as a shell would, while bash splits it at `=`, `:` and `@` as well."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        incomplete = "" if not words or line[-1:].isspace() else words.pop()
        return words[1:], incomplete

    def shown(self, word: str) -> str:
        """Leave out what stands before the last of bash's word breaks: bash replaces what follows it."""
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        kept = max((self.word.rfind(character) + 1 for character in breaks), default=0)
        return word[kept:] if word.startswith(self.word[:kept]) else word


class _Zsh(_Lines, ZshComplete):
    source_template = _ZSH


class _Fish(_Lines, FishComplete):
    source_template = _FISH


def register() -> None:
    """Have click use these scripts."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)
