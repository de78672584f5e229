"""`agl check`: what is wrong with a folder, and how to mend it."""
