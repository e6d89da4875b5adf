"""Who asks for what, when: trace formats, arrivals, lengths, sessions, SLOs."""
