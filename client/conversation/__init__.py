"""What is asked, in which order, and how often again: contracts of models, requests, answers; no network."""
