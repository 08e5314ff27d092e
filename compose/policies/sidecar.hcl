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

# The sample deploys with this token: compose/deploy.sh. The record of deployments,
# which the page shows, is also the lock of a deployment, held by a session.
key_prefix "pointsman/deployments/" {
  policy = "write"
}

# It gives versions the shares that an operator has set, and raises them in steps:
# pointsman rollout. One sidecar leads, under a lock.
key_prefix "pointsman/rollouts/" {
  policy = "write"
}

key_prefix "pointsman/rollout-leaders/" {
  policy = "write"
}

# It lets requests of a service wait that an operator has paused: pointsman pause.
key_prefix "pointsman/pauses/" {
  policy = "write"
}

session_prefix "" {
  policy = "write"
}
