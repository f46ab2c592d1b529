"""The Kubernetes API: patches that can't land on the wrong object, events, secrets."""
