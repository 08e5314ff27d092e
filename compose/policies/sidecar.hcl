# What a sidecar may do.

# It follows the service that its HAProxy routes to. A sidecar with more
# services in its sidecar.yaml needs a rule for each.
service "api" {
  policy = "read"
}

# It registers its load balancer, for clients to find.
service "lb" {
  policy = "write"
}

# It registers itself, for leaving nodes and deployments to find.
service "pointsman-sidecar" {
  policy = "write"
}

# Consul returns an instance together with its node's checks, and omits every
# instance whose node the token may not read. Nodes come and go, so all.
node_prefix "" {
  policy = "read"
}
