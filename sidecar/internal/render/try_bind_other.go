//go:build !linux

package render

// tryBind can't tell: Linux is where HAProxy is known to be like us.
func tryBind(bind) (inUse bool, err error) { return false, nil }
