// Package podlogs follows the logs of ztunnels' pods through the Kubernetes API server and passes on whole entries, each exactly
// once over ends of streams, restarts of containers and restarts of this process, provided that the caller stores what
// Changes returns together with what it made of the entries.
//
// The API server knows no offsets. It gives a log from a second on (sinceTime, to which its resolution is cut), each line with the
// time at which the container's runtime took it, which several lines may share. So a position is the second from which the next
// stream begins, and the lines from then on that were taken already, as hashes of their times and texts: what a stream repeats
// of them is left out, as often as each occurs. It does not matter how fine the times are, nor whether they are in order within
// that window of one to two seconds.
//
// A container that was restarted has a log of its own, and the API server gives the present one and that before. Which one a
// stream is of, it does not say. So the log before is read to its end after a stream of the present one was opened and before
// anything of that is taken: whichever containers the two turn out to be of, nothing lies between them. The times go on
// over a restart, and with them the position.
//
// What cannot be had: a log that the kubelet rotated away while no stream was open, and what a container wrote that was
// restarted twice meanwhile. When a stream repeats nothing of what was taken before, that may have happened, and it is counted.
package podlogs
