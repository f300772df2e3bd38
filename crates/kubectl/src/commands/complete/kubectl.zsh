#compdef kubectl
# zsh completion of kubectl. Use it with:
#   kubectl completion zsh >"${fpath[1]}/_kubectl"
_kubectl_builtin() {
    local -a answer candidates program typed
    local line directive
    program=("${words[1]}")
    typed=("${(@)words[2,CURRENT]}")
    if [[ ${words[1]:t} == skiff ]]; then
        program=("${words[1]}" kubectl)
        typed=("${(@)words[3,CURRENT]}")
    fi
    answer=("${(@f)$("${(@)program}" __complete "${(@)typed}" 2>/dev/null)}")
    directive=${answer[-1]#:}
    for line in "${(@)answer[1,-2]}"; do
        line=${line//:/\\:}
        candidates+=("${line/$'\t'/:}")
    done
    if (( ! ${#candidates} )); then
        (( directive & 4 )) || _files
    elif (( directive & 2 )); then
        _describe -t kubectl kubectl candidates -S ''
    else
        _describe -t kubectl kubectl candidates
    fi
}
if [ "$funcstack[1]" = _kubectl ]; then
    _kubectl_builtin
else
    compdef _kubectl_builtin kubectl
fi
