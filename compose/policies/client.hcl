# What a client may do: find the load balancers.

service "lb" {
  policy = "read"
}

# Without it Consul tells of no instance: see sidecar.hcl.
node_prefix "" {
  policy = "read"
}
