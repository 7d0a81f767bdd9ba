// Package verify finds out whether a gannet server keeps its promises about durable messages: nothing acknowledged is
// lost, nothing comes twice, in another order, with a hole or with other bytes, not even when the server dies. `gannet bench
// verify` calls it against any running server; tests do while they kill one.
//
//	Start ── pacer ── orders ──▶ device: one goroutine each, a real connection ──▶ server
//	  │                            │ sends, answers, receipts, gaps, resets
//	  │                            ▼
//	  └── Wait: settle, pull ──▶ History ── Check ──▶ Verdict ──▶ Report
//
// A History is what happened as seen from outside: every send, answer and receipt, of every device. Check is a function of
// it alone and asks nobody else, so what it judges can also be written down by a test, or by another client than this one.
//
// Who owns what: a device's goroutine owns its connection, its outbox and its positions, and alone writes its part of
// the History; a connection has one more goroutine that only reads. All of them have ended when Wait returns. The devices speak the
// protocol by package codec alone, with retries, positions and dropping of repetitions of their own, so that a mistake in package
// client cannot hide one in the server; with Options.SDK they work through package client instead, and what it hands to an
// application is judged.
//
// Everything is bounded: the History by Options.MaxEvents (a run that reaches it stops sending and says so), an outbox by
// Options.Window, findings by MaxFindings of each kind, the others counted.
package verify
