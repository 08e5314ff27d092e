// Package compose tests the sample as `docker compose up` runs it: real
// containers, and one fault or one change each, with five clients asking all
// the while. Its tests have the build tag "compose" and are run by `make e2e`,
// which has an engine and the images ready.
//
// Every scenario prints one JSON line and adds it to test/e2e/report.json. One
// looks at Consul's UI and HAProxy's page in a Chromium without a window, and
// keeps pictures of them in test/e2e/screens.
package compose
