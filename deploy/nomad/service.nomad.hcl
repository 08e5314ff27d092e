# A service behind the load balancers. The registrator starts the program,
# registers it once its check passes, and on SIGTERM waits until every load balancer
# has drained it. So the job has no `service` block: Nomad would deregister the
# instance before it is drained.
variable "version" {
  type    = string
  default = "1.0"
}

job "api" {
  group "api" {
    count = 3

    update {
      # New instances first, then the old ones leave.
      max_parallel     = 1
      canary           = 3
      auto_promote     = true
      health_check     = "task_states"
      min_healthy_time = "10s"
      auto_revert      = true
    }

    network {
      port "http" {}
    }

    task "api" {
      driver = "exec"

      config {
        # Both programs are on the client's machine; `artifact` can fetch them.
        command = "/usr/bin/registrator"
        args = [
          "run",
          "--service", "api",
          "--id", "api-${NOMAD_ALLOC_ID}",
          "--address", "${NOMAD_IP_http}",
          "--port", "${NOMAD_PORT_http}",
          "--version", "${var.version}",
          "--check", "http:/healthz",
          "--",
          "/usr/bin/api", "--listen", "${NOMAD_ADDR_http}",
        ]
      }

      # More than --leave-timeout (45s), and what the program needs to stop. The
      # client's max_kill_timeout must allow it.
      kill_signal  = "SIGTERM"
      kill_timeout = "90s"

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
