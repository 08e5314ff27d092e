# A load balancer on each client node: HAProxy, and the sidecar beside it.
#
# Both tasks share the allocation's directory, where haproxy.cfg and the sockets
# are, and run as the same user. Images: `make images` builds pointsman/sidecar, with
# the HAProxy of the same version; push it to your registry.
variable "haproxy_version" {
  type    = string
  default = "3.2"
}

job "lb" {
  type = "system"

  update {
    # One load balancer at a time.
    max_parallel = 1
    stagger      = "30s"
  }

  group "lb" {
    network {
      mode = "host"
      # HAProxy is not root in its image: a port below 1024 needs the machine's
      # net.ipv4.ip_unprivileged_port_start.
      port "http" { static = 8080 }
      port "health" { static = 8405 }
      port "pointsman" { static = 9600 }
    }

    task "sidecar" {
      driver = "docker"

      # It writes haproxy.cfg before HAProxy starts, and ends after it.
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      config {
        image        = "pointsman/sidecar:haproxy-${var.haproxy_version}"
        network_mode = "host"
        args         = ["run", "--config", "/local/sidecar.yaml"]
      }

      template {
        destination   = "local/sidecar.yaml"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-EOT
          name: {{ env "node.unique.name" }}
          consul:
            address: 127.0.0.1:8500
          api:
            # Leaving instances ask here, from their machines.
            address: "{{ env "NOMAD_ADDR_pointsman" }}"
          haproxy:
            socket: {{ env "NOMAD_ALLOC_DIR" }}/admin.sock
            master_socket: {{ env "NOMAD_ALLOC_DIR" }}/master.sock
            config: {{ env "NOMAD_ALLOC_DIR" }}/haproxy.cfg
            # HAProxy is not started as root here.
            global: {user: "", group: "", chroot: "", stats_socket_group: ""}
            health: {bind: "*:8405"}
          registration:
            service: lb
            port: 8080
          services:
            - name: api
              bind: "*:8080"
              check: {path: /healthz}
        EOT
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }

    task "haproxy" {
      driver = "docker"

      config {
        image        = "haproxy:${var.haproxy_version}"
        network_mode = "host"
        # The file is there once the sidecar has asked Consul.
        entrypoint = ["/bin/sh", "-c"]
        args = [
          "until [ -e $NOMAD_ALLOC_DIR/haproxy.cfg ]; do sleep 0.2; done; exec haproxy -W -db -S $NOMAD_ALLOC_DIR/master.sock,mode,660 -f $NOMAD_ALLOC_DIR/haproxy.cfg",
        ]
      }

      # Longer than haproxy.global.hard_stop_after.
      kill_signal  = "SIGUSR1"
      kill_timeout = "35s"

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
