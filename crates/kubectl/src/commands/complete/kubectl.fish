# fish completion of kubectl. Use it with:
#   kubectl completion fish >~/.config/fish/completions/kubectl.fish
function __kubectl_offer
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    if test (string split / -- $program)[-1] = skiff
        set -a program $words[1]
        set -e words[1]
    end
    set -l answer ($program __complete $words "$begun" 2>/dev/null)
    set -g __kubectl_directive (string replace : '' -- $answer[-1])
    set -e answer[-1]
    for line in $answer
        echo $line
    end
end
function __kubectl_wants_files
    set -l offered (__kubectl_offer)
    test (count $offered) -eq 0 -a "$__kubectl_directive" = 0
end
complete -c kubectl -e
complete -c kubectl -n 'not __kubectl_wants_files' -f -a '(__kubectl_offer)'
complete -c kubectl -n __kubectl_wants_files -F
