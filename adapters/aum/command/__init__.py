"""The command `aum`: find wrong labels, and look at, add up and export runs, without a line of Python.

In come words: the name of a command, files or folders, and options (`options`). Each command has a module of its own
name here, which is imported when it runs and has one function, ``run(options)``. Where something does not fit, that
raises an `errors.InputError` before anything is trained, removed or written. Out go the files of a run, lines and
tables on stdout (`printer`), progress on stderr (`progress`), and an exit code (`cli`): 0 done; 2 something does not
fit, with one line that says what; 130 interrupted.

A command never measures, ranks or judges by itself, which is the library's; it never overwrites what is not the result
of an earlier run of it; and it loads nothing but NumPy before it runs, so that ``aum --help`` answers at once.
"""
