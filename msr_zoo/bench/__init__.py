"""`msr-zoo bench`: a model beside what else could do its work, on this machine."""
