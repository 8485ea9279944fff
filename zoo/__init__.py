"""What training and serving share: architectures, tasks, bundles, and the command line."""
