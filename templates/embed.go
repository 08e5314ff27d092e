// Package templates holds the built-in template of haproxy.cfg. It is a
// package because go:embed cannot reach upward. It imports nothing.
package templates

import _ "embed"

// HAProxy is the text of haproxy.cfg.tmpl, for text/template.
//
//go:embed haproxy.cfg.tmpl
var HAProxy string
