"""The command ``fastact``. No call of a ufunc or a layer imports anything from here.

`cli` reads the arguments, and tells what ``fastact info`` tells. `bench` measures times: `cases`
has the operations and operands that are timed, `arrays` their layouts; `race`, `tables` and `plot`
measure and tell. `check` measures errors: `inputs` are tried by `sweeps` and `rows`; `measure` and
`report` do the rest. Both use what stands beside them: `peers` compute; `exact`, `errors` and
`timing` measure; `samples` draws; `console` and `markup` print.
"""
