package balance

import "testing"

// TestXXHash64 has the values of the reference implementation's self-test, whose input is made by the same
// generator, and those of Envoy's own test.
func TestXXHash64(t *testing.T) {
	t.Parallel()
	const prime32 = 2654435761
	input := make([]byte, 222)
	for i, g := 0, uint64(prime32); i < len(input); i++ {
		input[i] = byte(g >> 56)
		g *= 11400714785074694797
	}
	for _, c := range []struct {
		length int
		seed   uint64
		want   uint64
	}{
		{0, 0, 0xef46db3751d8e999}, {0, prime32, 0xac75fda2929b17ef},
		{1, 0, 0xe934a84adb052768}, {1, prime32, 0x5014607643a9b4c3},
		{4, 0, 0x9136a0dca57457ee},
		{14, 0, 0x8282dcc4994e35c8}, {14, prime32, 0xc3bd6bf63deb6df0},
		{222, 0, 0xb641ae8cb691c174}, {222, prime32, 0x20cb8ab7ae10c14a},
	} {
		if got := xxHash64(input[:c.length], c.seed); got != c.want {
			t.Errorf("%d bytes, seed %d: %#x, want %#x", c.length, c.seed, got, c.want)
		}
	}
	for text, want := range map[string]uint64{
		"foo": 3728699739546630719, "bar": 5234164152756840025, "foo\nbar": 8917841378505826757,
		"lyft": 4400747396090729504, "": 17241709254077376921,
		"0123456789abcdefghijklmnopqrstuvwxyz": 0x69196c1b3af0bff9,
	} {
		if got := xxHash64([]byte(text), 0); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
