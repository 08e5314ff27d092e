package sim

import (
	"slices"
	"strconv"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// disk holds haproxy.cfg.
type disk struct {
	w        *world
	text     []byte    // nil: there is none
	renderer *renderer // of the newest settings
	foreign  bool      // another program has written it, and no sidecar has since

	// known holds what each text that was rendered means: HAProxy's parser.
	known map[string]content
}

// content is what a file says.
type content struct {
	marker   plan.Marker
	invalid  bool // HAProxy rejects it
	backends []plan.FileBackend
}

// on reads what is on disk. A file that is not ours has no marker and no
// backends.
func (d *disk) on() (content, bool) {
	if d.text == nil {
		return content{}, false
	}
	return d.known[string(d.text)], true
}

// has reports whether the file brings a server at an address into traffic.
func (d *disk) has(at place) bool {
	c, _ := d.on()
	return slices.ContainsFunc(c.backends, func(b plan.FileBackend) bool {
		return b.Service == at.service && slices.ContainsFunc(b.Servers, func(s plan.FileServer) bool { return s.Addr == at.addr && !s.Disabled && s.Weight > 0 })
	})
}

// renderer renders one version of the settings.
type renderer struct {
	w       *world
	marker  plan.Marker
	invalid bool // HAProxy does not take what it renders
}

// Marker tells it from others.
func (r *renderer) Marker() plan.Marker { return r.marker }

// Render gives a file that begins out of rotation or not in HAProxy's own
// words; the rest is as short as can be.
func (r *renderer) Render(backends []plan.FileBackend) ([]byte, error) {
	b := append([]byte("setenv POINTSMAN_MARK "), r.marker.String()...)
	b = append(b, '\n')
	for _, f := range backends {
		b = append(append(append(b, "backend "...), f.Backend...), '\n')
		for _, s := range f.Servers {
			b = append(append(append(b, " server "...), s.Name...), ' ')
			b = s.Addr.AppendTo(b)
			b = strconv.AppendInt(append(b, " weight "...), int64(s.Weight), 10)
			b = strconv.AppendInt(append(b, " maxconn "...), int64(s.MaxConn), 10)
			b = strconv.AppendInt(append(b, " agent-port "...), int64(s.AgentPort), 10)
			if s.Backup {
				b = append(b, " backup"...)
			}
			if s.Disabled {
				b = append(b, " disabled"...)
			}
			b = append(b, '\n')
		}
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if _, known := r.w.disk.known[string(b)]; !known {
		r.w.disk.known[string(b)] = content{r.marker, r.invalid, backends}
	}
	return b, nil
}

// String lists the servers in the file.
func (d *disk) String() string {
	c, _ := d.on()
	return c.String()
}

// String lists the servers of a content.
func (c content) String() string {
	out := ""
	if c.marker == (plan.Marker{}) {
		out = "not ours "
	}
	for _, f := range c.backends {
		out += f.Backend + ":"
		for _, s := range f.Servers {
			switch {
			case s.Disabled:
				out += " (" + s.Name + ")"
			default:
				out += " " + s.Name + "@" + s.Addr.String() + " w" + strconv.Itoa(s.Weight)
			}
		}
		out += " "
	}
	return out
}
