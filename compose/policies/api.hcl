# What a node of the API may do.

# It registers itself, with its check, marks itself as leaving, and deregisters.
# Consul knows no rule for one instance: a node could take away another.
service "api" {
  policy = "write"
}

# Before it stops it asks every sidecar whether anybody is on it still.
service "pointsman-sidecar" {
  policy = "read"
}

# Consul leaves out every sidecar of whose node the asker may not read.
node_prefix "" {
  policy = "read"
}
