"""The commands, a module each; `options`, `output` and `dispatch` have what several of them use."""
