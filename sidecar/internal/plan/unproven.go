package plan

import "slices"

// FileToReload returns the servers as a reload is to load them: those that
// nothing has proved begin in maint, to be made ready as any newcomer. A new
// worker takes every server of its file for up until a check says otherwise, so
// it would send requests to servers that are down. It is not the file that
// stays: another program that loads it is to have them all.
func (p Plan) FileToReload() []FileBackend {
	out := slices.Clone(p.File)
	for i := range out {
		unproven := p.Unproven[out[i].Backend]
		if len(unproven) == 0 {
			continue
		}
		is := make(map[string]bool, len(unproven))
		for _, name := range unproven {
			is[name] = true
		}
		out[i].Servers = slices.Clone(out[i].Servers)
		for n := range out[i].Servers {
			f := &out[i].Servers[n]
			f.Disabled = f.Disabled || is[f.Name]
		}
	}
	return out
}

// noteUnproven lists what is to take traffic and has not passed its check at
// its address. A backend of which nothing is up has no traffic to protect, and
// should not wait for anyone; nor has one that HAProxy does not have yet.
func (p *Plan) noteUnproven(b *backendPlan) {
	if !b.exists || !b.Checked {
		return
	}
	up := make(map[addrKey]bool, len(b.servers))
	for i := range b.servers {
		if s := &b.servers[i]; s.Up && s.Admin != Maint {
			up[addrKey{s.Addr, s.Backup}] = true
		}
	}
	if len(up) == 0 {
		return
	}
	f := p.File[len(p.File)-1] // the part's own
	for _, s := range f.Servers {
		if s.Disabled || s.Weight == 0 || up[addrKey{s.Addr, s.Backup}] {
			continue
		}
		if p.Unproven == nil {
			p.Unproven = map[string][]string{}
		}
		p.Unproven[f.Backend] = append(p.Unproven[f.Backend], s.Name)
	}
}
