"""The `moe-segments` command: a front door over the public API, nothing that a program could not do itself.

`app` names the commands and is light, so that `--help` answers at once; each command imports what it needs when it is
run. Results go to standard output, everything else to standard error.
"""
