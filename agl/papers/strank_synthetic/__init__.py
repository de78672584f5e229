"""STRank's synthetic study: two tissues, known functions, many small networks trained side by side."""
