# What all agents of the cluster have in common, servers and clients. What is
# secret, and what differs, is in /consul/secrets/agent.json: keys.sh makes it.
datacenter = "dc1"
log_level  = "warn"
retry_join = ["consul0", "consul1", "consul2"]

# Without a token everything is denied. While no server can be reached, earlier
# decisions stay valid.
acl {
  enabled        = true
  default_policy = "deny"
  down_policy    = "extend-cache"
}

# The API is HTTPS. Plain HTTP is for the container itself: its health check.
addresses {
  http  = "127.0.0.1"
  https = "0.0.0.0"
}
ports {
  http     = 8500
  https    = 8501
  grpc     = -1
  grpc_tls = -1
  dns      = -1
}

tls {
  defaults {
    ca_file         = "/consul/secrets/ca.pem"
    cert_file       = "/consul/secrets/cert.pem"
    key_file        = "/consul/secrets/key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  # Only a server's certificate makes a server.
  internal_rpc {
    verify_server_hostname = true
  }
  # A program shows a token, not a certificate.
  https {
    verify_incoming = false
  }
}

# Where an agent is stopped, its node stays known, and so do the services that
# are registered there: a restart is no leave.
leave_on_terminate = false

# No question to the maker whether there is a newer version.
disable_update_check = true

# The fastest elections that Consul has; its default is for small machines.
performance {
  raft_multiplier = 1
}
