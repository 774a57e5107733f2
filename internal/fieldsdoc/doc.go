// Command fieldsdoc writes docs/fields.md: what becomes of every field of every kind.
//
//	go run ./internal/fieldsdoc > docs/fields.md
//
// It knows nothing of its own: kinds and fields come from the descriptors of Istio's API and the structs of package
// config, their outcomes from the register there, which tests hold against validation, and the reasons are what
// validation says. A test fails where the page is not what this writes. Layer L10.
package main
