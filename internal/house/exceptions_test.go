package house

// tooLarge are the files, types and packages that are larger than they may be, and how large they are.
var tooLarge = map[string]int{}

// withoutBound are the packages with maps of which no comment says by what they are bounded, and how many.
var withoutBound = map[string]int{}
