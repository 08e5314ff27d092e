package api

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// problem is the body of an answer that is none.
type problem struct {
	Error string `json:"error"`
}

// writeJSON writes a body on one line.
func writeJSON(w http.ResponseWriter, code int, body any) { write(w, code, body, "") }

// write encodes the whole body first: an answer that has begun could no longer
// say that it failed.
func write(w http.ResponseWriter, code int, body any, indent string) {
	content, ok := encode(body, indent)
	if !ok {
		code = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(content) // the client is gone
}

// encode returns a body as JSON, or the answer that it cannot be encoded.
func encode(body any, indent string) (content []byte, ok bool) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(body); err != nil {
		return []byte(`{"error":"the answer cannot be encoded"}` + "\n"), false
	}
	return out.Bytes(), true
}
