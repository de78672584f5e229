"""The sections of a report, each a function of a block of runs or of the whole report; see `agl.reporting.making`."""
