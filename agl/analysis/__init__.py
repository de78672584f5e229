"""From the files of runs to tables and statistics; no figure is drawn here."""
