package config

import (
	"math"
	"time"
)

// haproxyMax bounds HAProxy's times: it counts milliseconds in 31 bits.
const haproxyMax = 24 * 24 * time.Hour

// DefaultFile is read where no other file is named; it need not exist.
const DefaultFile = "/etc/pointsman/sidecar.yaml"

// settings is the table of all settings but those of a service.
func settings() []setting[Config] {
	table := []setting[Config]{
		{
			key: "config", def: DefaultFile, noFile: true,
			doc: "The file with these settings. The default need not exist; one that is named must.",
			at:  func(c *Config) value { return text{&c.File, "path", path} },
		},
		{
			key: "name", derived: "the host name",
			doc: "This load balancer's name: in Consul, in logs and on the status page.",
			at:  func(c *Config) value { return text{&c.Name, "name", name} },
		},
	}
	table = append(table, consulSettings()...)
	table = append(table, haproxySettings()...)
	table = append(table, balancerSettings()...)
	table = append(table, addressSettings()...)
	table = append(table, statusSettings()...)
	return append(table, ownSettings()...)
}

// ownSettings are those of the sidecar itself.
func ownSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "settle.min", def: "100ms",
			doc: "A change that needs a reload waits until so long nothing further has changed. Changes at runtime never wait.",
			at:  func(c *Config) value { return span{&c.Settle.Min, 0, time.Minute} },
		},
		{
			key: "settle.max", def: "1s",
			doc: "But it waits no longer than this in all.",
			at:  func(c *Config) value { return span{&c.Settle.Max, 0, 10 * time.Minute} },
		},
		{
			key: "reload.min_interval", def: "2s",
			doc: "The least time between two reloads.",
			at:  func(c *Config) value { return span{&c.Reload.MinInterval, 0, time.Hour} },
		},
		{
			key: "reload.max_old_workers", def: "3",
			doc: "While so many old workers still serve their last connections, no reload is started.",
			at:  func(c *Config) value { return number{&c.Reload.MaxOldWorkers, 1, 1000} },
		},
		{
			key: "reload.max_old_workers_memory", def: "0",
			doc: "Nor while they take so much memory: their resident memory as `/proc` tells it, where the sidecar sees HAProxy's processes. 0 is no limit.",
			at:  func(c *Config) value { return size{&c.Reload.MaxMemory} },
		},
		{
			key: "reconcile_interval", def: "2s",
			doc: "How often HAProxy is compared with Consul though nothing seems to have changed. Where that takes long, on a large fleet, its servers are compared less often, up to every 30 s: it takes at most 1 % of a processor. Another worker and a maintenance are seen all the same.",
			at:  func(c *Config) value { return span{&c.ReconcileInterval, 100 * time.Millisecond, time.Hour} },
		},
		{
			key: "file_delay", def: "100ms",
			doc: "How long a write of haproxy.cfg waits for further changes.",
			at:  func(c *Config) value { return span{&c.FileDelay, 0, time.Minute} },
		},
		{
			key: "snapshot", derived: "`haproxy.config` with `.snapshot` after it",
			doc: "A file with what Consul last said, for a sidecar that starts while Consul is away. Empty keeps none. See [guard](guard.md).",
			at:  func(c *Config) value { return text{&c.Snapshot, "path", orEmpty(path)} },
		},
		{
			key: "log.level", def: "info",
			doc: "What is worth a line.",
			at:  func(c *Config) value { return oneOf(&c.Log.Level, "trace", "debug", "info", "warn", "error") },
		},
		{
			key: "log.format", def: "text",
			doc: "For people, or for programs.",
			at:  func(c *Config) value { return oneOf(&c.Log.Format, LogText, LogJSON) },
		},
	}
}

// atLeast is a number without an upper bound.
func atLeast(p *int, low int) value { return number{p, low, math.MaxInt} }
