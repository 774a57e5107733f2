// Package storefront is a small program with a mesh, and storefront_test.go is how such a program is tested:
// start there. The configuration in mesh.d is what production would have.
package storefront
