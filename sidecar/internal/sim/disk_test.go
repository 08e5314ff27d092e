package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// disk holds haproxy.cfg.
type disk struct {
	w        *world
	text     []byte    // nil: there is none
	renderer *renderer // of the newest settings
	foreign  bool      // another program has written it, and no sidecar has since

	maps        map[string][]route.Entry // the map files, by name
	foreignMaps bool                     // another program has written one, and no sidecar has since

	// known holds what each text that was rendered means: HAProxy's parser.
	known map[string]content
}

// content is what a file says.
type content struct {
	marker   plan.Marker
	invalid  bool // HAProxy rejects it
	backends []plan.FileBackend
	maps     map[string]route.Table // that it names, by file, with what they are to have
	found    route.Found
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

// put puts a content in place, with its map files.
func (d *disk) put(text []byte) {
	d.putMaps(d.known[string(text)])
	d.text, d.foreign = text, false
}

func (d *disk) putMaps(c content) {
	for file, want := range c.maps {
		d.maps[file] = slices.Clone(want)
	}
	d.foreignMaps = false
}

// hasMaps reports whether the map files are there that a content names, and are as it
// says if they need to be.
func (d *disk) hasMaps(c content) bool {
	for file := range c.maps {
		if _, is := d.maps[file]; !is {
			return false
		}
	}
	return true
}

// areMapsCurrent reports whether the map files are as a content says.
func (d *disk) areMapsCurrent(c content) bool {
	for file, want := range c.maps {
		if entries, is := d.maps[file]; !is || !sameEntries(entries, want) {
			return false
		}
	}
	return true
}

// load returns the maps of a worker that starts.
func (d *disk) load(c content) map[string]*table {
	out := map[string]*table{}
	for file := range c.maps {
		t := &table{entries: slices.Clone(d.maps[file])}
		if d.foreignMaps { // who has written that file answers for it
			t.foreign = d.w.now()
		}
		out[file] = t
	}
	return out
}

// renderer renders one version of the settings.
type renderer struct {
	w       *world
	marker  plan.Marker
	invalid bool                   // HAProxy does not take what it renders
	maps    map[string]route.Table // by file
	found   route.Found
}

// Marker tells it from others.
func (r *renderer) Marker() plan.Marker { return r.marker }

// Render returns a file that begins out of rotation or not in HAProxy's own
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
	for _, file := range slices.Sorted(maps.Keys(r.maps)) {
		b = fmt.Appendf(b, "#map %s %v\n", file, r.maps[file])
	}
	if len(r.maps) > 0 {
		b = r.appendFound(b)
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if _, known := r.w.disk.known[string(b)]; !known {
		r.w.disk.known[string(b)] = content{r.marker, r.invalid, backends, r.maps, inFile(r.found)}
	}
	return b, nil
}

// inFile is what was found as far as the file tells: nothing of when.
func inFile(found route.Found) (out route.Found) {
	for _, s := range found.Services {
		out.Services = append(out.Services, route.FoundService{Name: s.Name})
	}
	for _, s := range found.Gone {
		out.Gone = append(out.Gone, route.FoundService{Name: s.Name})
	}
	for _, f := range found.Routes {
		said := *f
		said.Unclaimed = time.Time{}
		out.Routes = append(out.Routes, &said)
	}
	return out
}

// appendFound adds what was found, as far as the file tells.
func (r *renderer) appendFound(b []byte) []byte {
	for _, s := range r.found.Services {
		b = append(b, "#discovered "+s.Name+"\n"...)
	}
	for _, s := range r.found.Gone {
		b = append(b, "#discovered-gone "+s.Name+"\n"...)
	}
	for _, f := range r.found.Routes {
		b = fmt.Appendf(b, "#claimed %s %s %d %s\n", f.Frontend, f.Route("").Key(), f.Strip, f.Service)
	}
	return b
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
