package haproxy

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A reply about a large fleet is megabytes: what is kept of it must not keep it.
func TestObserve_WhatIsKept_KeepsNoReply(t *testing.T) {
	t.Parallel()
	// As eachReply cuts it: parts of one text.
	text := "Pid: 7\nVersion: 3.4.7\n" + plan.MarkerVariable + "=1.aa.bb.cc\n"
	cut := len("Pid: 7\nVersion: 3.4.7\n")
	var v workerView
	if err := v.readHead([]string{text[:cut], text[cut:]}, true); err != nil {
		t.Fatal(err)
	}
	begin := uintptr(unsafe.Pointer(unsafe.StringData(text)))
	m := markerFrom(v.env)
	for _, kept := range []string{capabilities(v.info.version).Version, m.Template, m.Services, m.Settings} {
		if at := uintptr(unsafe.Pointer(unsafe.StringData(kept))); kept == "" || at >= begin && at < begin+uintptr(len(text)) {
			t.Errorf("%q is a part of the reply", kept)
		}
	}
	if v.info.version != "3.4.7" || v.env == "" {
		t.Error(fmt.Sprint("read wrongly: ", v))
	}
}
