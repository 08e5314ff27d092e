// Package credential holds what proves an identity: tokens, certificates
// and the authorities that sign them, read from files and read again when
// those change, so that a rotation needs no restart. Both halves use it.
//
// Its invariants: what was good is used until there is something better, so
// that a file which is replaced at this moment, or spoiled, locks no client out;
// and no error shows a secret.
//
// It is a leaf: it imports nothing of this project. What speaks to others or is
// spoken to imports it.
package credential
