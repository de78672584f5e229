"""The figures of a report: each is drawn, saved beside its data, and given back for the page."""
