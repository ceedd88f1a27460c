"""The commands, a module each; `common` has what several of them use."""
