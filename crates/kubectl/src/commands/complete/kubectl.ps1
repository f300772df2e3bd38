# PowerShell completion of kubectl. Use it with:
#   kubectl completion powershell | Out-String | Invoke-Expression
function __KubectlOffer($wordToComplete, $commandAst) {
    $elements = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    $program = $elements[0]
    $words = @($elements | Select-Object -Skip 1)
    $before = @()
    if ((Split-Path -Leaf $program) -eq 'skiff') {
        $before = @('kubectl')
        $words = @($words | Select-Object -Skip 1)
    }
    if (-not $wordToComplete) { $words += '""' }
    $answer = & $program @before __complete @words 2>$null
    $answer | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $word, $help = $_ -split "`t", 2
        if (-not $help) { $help = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $help)
    }
}
Register-ArgumentCompleter -Native -CommandName kubectl -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    __KubectlOffer $wordToComplete $commandAst
}
