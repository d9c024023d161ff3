// Package redistest starts real Redis servers for tests: single ones, clusters,
// and masters with replicas and sentinels. They listen on free ports of
// 127.0.0.1, keep their files in temporary folders and end with the test. They
// can be killed, frozen and started again.
//
// Where redis-server and redis-cli are not installed, tests are skipped, or
// fail when the environment variable CI is set.
package redistest
