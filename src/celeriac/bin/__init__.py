"""The command line: `celeriac`.

1. `main.py`: the root command and its lazy table of subcommands.
2. `base.py`: how every command and option behaves (groups in the help, environment names, added options,
   errors and exit codes).
3. One module per subcommand; each is imported only when it is called or listed.
4. `context.py`: the application that `-A` names, and what a command may print.

Not here: what a worker or a scheduler does (`worker/`, `beat/`). A command parses, calls, and prints.
"""
