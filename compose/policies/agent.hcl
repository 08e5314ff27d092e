# What a Consul agent itself may do, server or client: the token in its own
# configuration. Each has a policy of its own, with its name for NODE, so that
# none can pass for another.

# It registers its node, and keeps the node's health and network coordinate.
node "NODE" {
  policy = "write"
}

# It compares what it knows of its node with the catalog, and would take a
# service that it may not read for missing, and register it for ever. The
# services that are registered at agents here:
service "api" {
  policy = "read"
}
service "lb" {
  policy = "read"
}
