# What a node of the API may do.

# It registers itself, with its check, marks itself as leaving, and deregisters.
# Consul knows no rule for one instance: a node could take away another.
service "api" {
  policy = "write"
}
