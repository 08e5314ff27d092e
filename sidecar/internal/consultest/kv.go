package consultest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// kvEntry is a key of the key/value store.
type kvEntry struct {
	Key, Session string
	Value        string // base64
	ModifyIndex  uint64
}

// store is the key/value store and its sessions, which never expire by themselves.
type store struct {
	keys     map[string]*kvEntry
	sessions map[string]bool
	made     int
	gone     uint64 // index at which a key was last deleted
}

// EndSessions ends all sessions, as Consul does when they are not renewed.
func (f *Fake) EndSessions() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.store.sessions {
		f.endSession(id)
	}
}

func (f *Fake) endSession(id string) {
	delete(f.store.sessions, id)
	for _, e := range f.store.keys {
		if e.Session == id {
			f.index++
			e.Session, e.ModifyIndex = "", f.index
		}
	}
}

// session is /v1/session/create, renew and destroy.
func (f *Fake) session(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.PathValue("id")
	switch what := r.PathValue("what"); {
	case what == "create":
		f.store.made++
		id = fmt.Sprintf("00000000-0000-0000-0000-%012d", f.store.made)
		f.store.sessions[id] = true
		reply(w, map[string]string{"ID": id})
	case what == "destroy":
		f.endSession(id)
		reply(w, true)
	case !f.store.sessions[id]:
		http.Error(w, fmt.Sprintf("Session id '%s' not found", id), http.StatusNotFound)
	default:
		reply(w, []map[string]string{{"ID": id}})
	}
}

// readKV is GET /v1/kv/KEY, with ?keys and ?recurse too, which blocks with ?index.
func (f *Fake) readKV(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	isPrefix := query.Has("keys") || query.Has("recurse")
	matches := func(key string) bool {
		return key == r.PathValue("key") || isPrefix && strings.HasPrefix(key, r.PathValue("key"))
	}
	index := func() uint64 { // a real one's is that of the store, too, where nothing matches
		highest := uint64(0)
		for key, e := range f.store.keys {
			if matches(key) {
				highest = max(highest, e.ModifyIndex)
			}
		}
		return max(highest, f.store.gone, 1)
	}
	if !f.block(r, query, index) {
		return
	}
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault.before(f, w, r) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	setHeaders(w.Header(), index(), fault)
	var found []kvEntry
	for key, e := range f.store.keys {
		if matches(key) {
			found = append(found, *e)
		}
	}
	if len(found) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	slices.SortFunc(found, func(a, b kvEntry) int { return strings.Compare(a.Key, b.Key) })
	if !query.Has("keys") {
		reply(w, found)
		return
	}
	names := make([]string, 0, len(found))
	for _, e := range found {
		names = append(names, e.Key)
	}
	reply(w, names)
}

// deleteKV is DELETE /v1/kv/KEY.
func (f *Fake) deleteKV(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	f.store.gone = f.index
	delete(f.store.keys, r.PathValue("key"))
	f.wake()
	reply(w, true)
}

// writeKV is PUT /v1/kv/KEY, with ?cas or ?acquire.
func (f *Fake) writeKV(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key, query := r.PathValue("key"), r.URL.Query()
	e := f.store.keys[key]
	session, index := "", uint64(0)
	if e != nil {
		session, index = e.Session, e.ModifyIndex
	}
	if id := query.Get("acquire"); id != "" {
		if !f.store.sessions[id] {
			http.Error(w, fmt.Sprintf("rpc error making call: invalid session \"%s\"", id), http.StatusInternalServerError)
			return
		}
		if session != "" && session != id {
			reply(w, false)
			return
		}
		session = id
	} else if query.Get("cas") != strconv.FormatUint(index, 10) {
		reply(w, false)
		return
	}
	f.index++
	defer f.wake()
	f.store.keys[key] = &kvEntry{Key: key, Session: session, Value: base64.StdEncoding.EncodeToString(value), ModifyIndex: f.index}
	reply(w, true)
}
