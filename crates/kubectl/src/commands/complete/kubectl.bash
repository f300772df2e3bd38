# bash completion of kubectl; bash 3.2 and newer. Use it with:
#   kubectl completion bash >/etc/bash_completion.d/kubectl
_kubectl_builtin() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]}
    local -a words program
    local last answer directive candidate head
    read -ra words <<<"$line"
    case $line in
        *' ') words+=('') ;;
    esac
    program=("${words[0]}")
    words=("${words[@]:1}")
    if [ "${program[0]##*/}" = skiff ]; then
        program+=("${words[0]}")
        words=("${words[@]:1}")
    fi
    last=${words[${#words[@]}-1]}
    COMPREPLY=()
    answer=$("${program[@]}" __completeNoDesc "${words[@]}" 2>/dev/null) || return
    directive=${answer##*:}
    # bash begins a new word at each : and =, and wants only what is behind them.
    head=${last%"$word"}
    case $word in
        : | =) head=$last ;;
    esac
    while IFS= read -r candidate; do
        case $candidate in
            :[0-9]* | '') ;;
            *) COMPREPLY+=("${candidate#"$head"}") ;;
        esac
    done <<<"$answer"
    if [ $((directive & 2)) -ne 0 ]; then
        compopt -o nospace 2>/dev/null
    fi
    if [ $((directive & 4)) -eq 0 ] && [ ${#COMPREPLY[@]} -eq 0 ]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r candidate; do
            COMPREPLY+=("$candidate")
        done < <(compgen -f -- "$word")
    fi
}
complete -F _kubectl_builtin kubectl
