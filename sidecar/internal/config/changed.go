package config

import (
	"reflect"
	"slices"
)

// Changed returns the keys of the settings in which two Configs differ, in the
// order of the table; "services", "frontends" and "profiles" stand for all of
// theirs.
func Changed(before, after Config) []string {
	var keys []string
	for _, s := range settings() {
		if !reflect.DeepEqual(s.at(&before).target(), s.at(&after).target()) {
			keys = append(keys, s.key)
		}
	}
	if !reflect.DeepEqual(before.Services, after.Services) {
		keys = append(keys, servicesKey)
	}
	if !reflect.DeepEqual(before.Frontends, after.Frontends) {
		keys = append(keys, frontendsKey)
	}
	if !reflect.DeepEqual(before.Profiles, after.Profiles) {
		keys = append(keys, profilesKey)
	}
	return keys
}

// NeedRestart picks those of the keys whose settings are read at the start only.
func NeedRestart(keys []string) (fixed []string) {
	for _, s := range settings() {
		if s.restart && slices.Contains(keys, s.key) {
			fixed = append(fixed, s.key)
		}
	}
	return fixed
}
