package node

import "net/http"

// health answers Consul's and HAProxy's checks. It stays green while the node
// is leaving: a check that fails would have the requests in flight cut.
func (n *Node) health(w http.ResponseWriter, _ *http.Request) {
	if mode, _, _ := n.fail.now(); mode == modeCritical {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "critical"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "passing"})
}
