package node

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"time"
)

// root answers "/", whatever the method. It is what the failures apply to.
func (n *Node) root(w http.ResponseWriter, r *http.Request) {
	n.requests.Add(1)
	a, err := n.answer(r)
	if err != nil {
		n.refuse(w, a, err)
		return
	}
	// The body is read before a hang: net/http sees that the client has gone
	// away only once it has read the whole request.
	if err := a.addBody(w, r); err != nil {
		n.refuse(w, a, err)
		return
	}
	mode, stays := n.fail.settle(r.Context())
	switch {
	case !stays:
	case mode == mode5xx:
		a.Error = "failure mode set"
		writeJSON(w, http.StatusServiceUnavailable, a)
	default:
		writeJSON(w, http.StatusOK, a)
	}
}

// addBody reads the request's body and describes it in the answer, so that the
// client can see that it arrived whole.
func (a *answer) addBody(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil
	}
	// The server has no ReadTimeout: it would end the context of a slow
	// request too. A failure to set the deadline is one to read, next line.
	deadlines := http.NewResponseController(w)
	_ = deadlines.SetReadDeadline(time.Now().Add(patience))
	hash := sha256.New()
	length, err := io.Copy(hash, http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return err
	}
	_ = deadlines.SetReadDeadline(time.Time{})
	a.Length = &length
	a.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return nil
}
