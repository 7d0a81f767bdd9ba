// Package crashtest kills a real server, again and again, and checks that it kept its promises: what was acknowledged
// or received before is there, once, in order, whatever moment it died at. It holds tests alone.
//
//	go test ./internal/crashtest                        five deaths, as in make test
//	go test ./internal/crashtest -rounds 200 -seed 7    as in make test-crash, with the choices of one run again
//
// The server is gannetd as users have it, built once for all tests, with Pebble on a folder of the test. Package
// bench/verify drives the traffic, comes back after each death and has the last word. Only processes that a test started are
// killed, and all of them have ended when it has.
package crashtest
