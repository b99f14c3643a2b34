"""The scripts that `rocksyd completion bash` prints: how each shell asks, at each TAB, what can be typed next.

What must live here: the three scripts.
What this file must not know: which words fit (``completion``); the scripts only pass on what it prints.
"""

from __future__ import annotations

import argparse

from rocksyd.cli.output import write

SCRIPTS = {
    "bash": r"""# rocksyd completion bash
_rocksyd() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default ;;
            :nospace) compopt -o nospace ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete line "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _rocksyd rocksyd
""",
    "zsh": r"""#compdef rocksyd
_rocksyd() {
    local line value files
    local -a texts more
    for line in "${(@f)$("${(Q)words[1]/#\~/$HOME}" __complete words "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        case $line in
            :files) files=1 ;;
            :nospace) more=(-S '') ;;
            ?*) value=${line%%$'\t'*}; texts+=("${value//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( $#texts )) && _describe -V rocksyd texts "${more[@]}"
    [[ -n $files ]] && _files
}
if [ "$funcstack[1]" = "_rocksyd" ]; then _rocksyd "$@"; else compdef _rocksyd rocksyd; fi
""",
    "fish": r"""# rocksyd completion fish
function __rocksyd_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($before[1] __complete words $before[2..-1] "$current" 2>/dev/null)
    string match --invert --regex '^:' -- $found
    contains -- :files $found; and __fish_complete_path "$current"
end
complete --command rocksyd --no-files --keep-order --arguments '(__rocksyd_complete)'
""",
}


def completion(options: argparse.Namespace) -> int:
    """Print the shell's script."""
    write(SCRIPTS[options.shell])
    return 0
