// Package podlogs follows the logs of ztunnels' pods through the Kubernetes API server and passes on whole entries, each exactly
// once over ends of streams, restarts of containers and restarts of this process, provided that the caller stores what
// Changes returns together with what it made of the entries.
//
// The API server has no offsets. It starts a log at a second (sinceTime has that resolution) and gives each line with the
// time at which the container's runtime took it, which several lines may share. So a position is the second at which the next
// stream begins, and hashes of the times and texts of the lines since then that were already taken. Lines that a stream repeats
// are skipped, as often as each occurs. The resolution of the times does not matter, nor their order within
// that window of one to two seconds.
//
// A restarted container has a new log, and the API server gives the present log and the previous one. It does not say
// to which of the two a stream belongs. So the previous log is read to its end after a stream of the present one was opened and before
// anything is taken from that stream: whichever containers the two belong to, nothing lies between them. The times continue
// over a restart, and so does the position.
//
// Two things cannot be read: a log that the kubelet rotated away while no stream was open, and the output of a container that was
// restarted twice in that time. When a stream repeats nothing that was taken before, this may have happened, and it is counted.
package podlogs
